-- Which tags do people use most, and of how well rated films?
select
    tags.tag,
    count(*) as uses,
    count(distinct tags.movie_key) as films,
    round(avg(movies.rating_mean), 3) as rating_mean
from {{ ref('fct_tags') }} as tags
inner join {{ ref('dim_movies') }} as movies on tags.movie_key = movies.movie_key
group by tags.tag
order by uses desc, tags.tag asc
limit 10
