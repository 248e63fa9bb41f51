-- Which genres are rated most, and which best?
select
    genres.genre,
    count(*) as films,
    sum(movies.rating_count) as ratings,
    round(sum(movies.rating_count * movies.rating_mean) / sum(movies.rating_count), 3) as rating_mean
from {{ ref('bridge_movie_genres') }} as genres
inner join {{ ref('dim_movies') }} as movies on genres.movie_key = movies.movie_key
where movies.rating_count > 0
group by genres.genre
order by ratings desc, genres.genre asc
