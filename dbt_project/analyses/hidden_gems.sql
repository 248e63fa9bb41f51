-- Which films are loved by the few who know them: four stars or more, and no more than 40 ratings?
select
    title,
    year,
    main_genre,
    rating_count,
    rating_mean
from {{ ref('dim_movies') }}
where rating_count between 10 and 40 and rating_mean >= 4
order by rating_mean desc, rating_count desc, movie_key asc
limit 10
