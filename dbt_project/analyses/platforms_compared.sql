-- How many titles has each platform, how many of them are films of ours, and how are they scored?
select
    platform,
    count(*) as titles,
    count(movie_key) as films_of_ours,
    count(distinct release_year) as years,
    round(avg(score), 3) as mean_score,
    count(*) filter (where score_source = 'user_ratings') as scored_by_users
from {{ ref('dim_streaming_titles') }}
group by platform
order by platform
